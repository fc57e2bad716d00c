echo f > f; mkdir d; echo 1 > d/1; tar --owner=7 --group=8 -cf a.tar d
