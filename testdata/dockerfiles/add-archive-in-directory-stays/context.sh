mkdir d; echo 1 > 1; tar --sort=name --mtime=@0 --owner=0 --group=0 -cf d/a.tar 1
