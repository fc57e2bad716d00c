mkdir d; echo 1 > 'd/a b'; echo 2 > 'd/#c'; echo 3 > 'd/é'; echo 4 > 'd/new
line'; echo 5 > 'd/-dash'; echo 6 > "d/qu'o\"te"; echo 7 > 'd/.wh'
