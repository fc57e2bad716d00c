mkdir -p d/sub/deep d/empty e "sp ace"
echo f > f; echo g > g.txt; echo h > h.log; echo 1 > d/1; echo 2 > d/sub/2.txt; echo 3 > d/sub/deep/3; echo x > e/1; echo s > "sp ace/s"
ln -s f lf; ln -s d ld; ln -s 1 d/l1; ln -s ../f d/up; ln -s nowhere dang; cp d/1 d/hard
chmod 600 g.txt; chmod 4755 h.log; chmod 700 d/sub; chmod 1777 e; chown 5:6 g.txt d/1
tar --sort=name --mtime=@0 --format=gnu -cf a.tar d f; tar --sort=name --mtime=@0 --format=gnu -cf - e g.txt | gzip -n > a.tgz; echo '!' > .hidden
