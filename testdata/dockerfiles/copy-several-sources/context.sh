echo a > a; echo b > b; mkdir d e; echo d > d/x; echo e > e/x; echo y > e/y; echo s > 'with space'
