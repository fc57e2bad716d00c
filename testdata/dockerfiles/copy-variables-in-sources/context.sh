echo f > f; echo g > fg
