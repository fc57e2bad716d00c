echo f > fval
