echo f > f; mkdir -p d/sub; echo 1 > d/1; chown 5:6 d/1 f; ln -s 1 d/l
