mkdir -p ../extra/sub; echo one > ../extra/one.txt; echo two > ../extra/sub/two.txt; echo log > ../extra/sub/skip.log
echo '**/*.log' > ../extra/.dockerignore
