echo a > a; echo h > .hidden; mkdir dir; echo i > dir/i; echo j > dir/.j; ln -s a la; ln -s dir ld
