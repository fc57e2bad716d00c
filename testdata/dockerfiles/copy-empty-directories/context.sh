mkdir -p empty d/a/b/c
