mkdir ../extra; echo context > ../extra/one.txt
