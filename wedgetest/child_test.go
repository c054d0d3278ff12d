package wedgetest

func childMain() bool { return false }
