mkdir -m 711 t; echo 1 > t/1; tar --owner=7 --group=8 -C t -cf a.tar .; rm -r t
