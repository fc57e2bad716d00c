echo f > f; mkdir -p d/sub; echo 1 > d/1; echo 2 > d/sub/2; chmod 700 d/sub
