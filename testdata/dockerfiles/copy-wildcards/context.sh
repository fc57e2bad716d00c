echo a > a.txt; echo b > b.txt; echo c > c.txt; echo ab > ab.txt; echo bc > bc.txt; mkdir d1 d2; echo 1 > d1/f; echo 2 > d2/f; echo g > d2/g
