printf hidden > ../secret
