echo f > f; setfattr -n user.x -v y f; tar --xattrs -cf a.tar f; rm f
