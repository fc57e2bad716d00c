echo f > f; echo g > g; echo g > .dockerignore
