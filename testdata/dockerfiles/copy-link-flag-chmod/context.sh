echo f > f; mkdir d; echo 1 > d/1
