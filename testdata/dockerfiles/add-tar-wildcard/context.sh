echo 1 > 1; tar -cf a.tar 1; echo 2 > 2; tar -cf b.tar 2
