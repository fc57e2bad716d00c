echo a > a.log; echo b > b.txt; echo c > c.txt; mkdir -p d/e; echo 1 > d/1.log; echo 2 > d/2.txt; echo 3 > d/e/3.log; echo 4 > d/e/4.txt
