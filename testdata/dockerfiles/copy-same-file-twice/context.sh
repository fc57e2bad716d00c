echo f > f; mkdir d; echo df > d/f
