mkdir -p d/sub; echo new > d/f; echo l > d/l; echo s > d/sub/s
