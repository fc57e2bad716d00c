mkdir -p a/b c; for f in x.txt y.md a/x.txt a/y.md a/b/x.txt a/b/z.log c/z.log README.md; do echo $f > $f; done; cat > .dockerignore <<'END'
# comment

  x.txt  
/a
#c
 ./y.md
END
