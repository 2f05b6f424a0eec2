def check(site):
    return 0
