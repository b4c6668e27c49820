"""What a data set is: a cohort's columns, its contract, and ways to make or deal out rows."""
