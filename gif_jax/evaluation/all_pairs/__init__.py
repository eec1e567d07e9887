"""Any labelled data set: all its pairs compared."""
