mkdir t; mkfifo t/fifo; mknod t/null c 1 3; mknod t/blk b 7 9; mkdir -m 1777 t/tmp; echo s > t/suid; chmod 4755 t/suid; tar --owner=7 --group=8 -C t -cf a.tar .; rm -r t
