echo 1 > '[x].txt'; echo 2 > 'arr[0].txt'; echo 3 > 's*r'; echo 3 > sxr; echo 4 > 'q?x'; echo 4 > qyx
