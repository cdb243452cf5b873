# No class here has attributes to declare: compiling the functions is all.
