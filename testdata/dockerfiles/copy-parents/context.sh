mkdir -p a/b a/e c/d/g; echo f > a/b/f; echo e > a/e/f; echo g > c/d/g/h; echo d > c/d/i; chmod 750 a/b
