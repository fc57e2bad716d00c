echo a > a.log; echo b > b.txt; echo c > c.txt
