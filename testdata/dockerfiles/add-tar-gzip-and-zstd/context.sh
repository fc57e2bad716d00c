mkdir -p t/d; echo 1 > t/1; echo 2 > t/d/2; ln -s 1 t/l; ln t/1 t/h; chmod 640 t/1; chmod 750 t/d; tar --owner=7 --group=8 -C t -cf a.tar .; gzip -k a.tar; zstd -q a.tar; cp a.tar.gz oddname; rm -r t
