mkdir d; echo 1 > d/1; echo h > .hidden; ln -s d/1 l
