echo f > f; mkdir d; echo g > d/g
