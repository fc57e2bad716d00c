mkdir -p d/sub d/empty; echo 1 > d/1; echo 2 > d/sub/2; echo h > d/.hidden
