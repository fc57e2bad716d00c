mkdir -p d/sub; echo s > d/sub/s; echo f > d/f
