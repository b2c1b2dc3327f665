"""Settings tried one after another, chosen by examples that are held out for it.

grid.py      "learning_rate=1e-3,1e-2;batch_size=16,64": the choices
runs.py      each choice trained, in a folder of its own
choosing.py  what each gave on the validation examples, the best, and its test
telling.py   a table, a picture, and how sure the choice is
"""
