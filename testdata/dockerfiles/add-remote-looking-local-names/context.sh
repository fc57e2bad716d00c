echo 1 > http.txt; echo 2 > https
