mkdir -p t/d t/l; echo new > t/1; echo 2 > t/d/2; echo 3 > t/l/3; tar --owner=7 --group=8 -C t -cf a.tar .; rm -r t
