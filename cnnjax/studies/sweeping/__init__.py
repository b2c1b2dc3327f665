"""Settings that are tried, and chosen by examples that are held out for it.

grid.py      "learning_rate=1e-3,1e-2;batch_size=16,64": the choices
how.py       how all of them are trained
runs.py      each choice trained, with results in a folder of its own
together.py  those whose shapes agree, as one program
choosing.py  what each gave on the validation examples, the best, and its test
telling.py   a table, a picture, and how sure the choice is
"""
