echo f > f; mkdir -p d/sub; echo 1 > d/1; ln -s 1 d/l
