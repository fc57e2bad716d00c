echo 1 > 1; tar -cf a.tar 1; ln -s a.tar link
