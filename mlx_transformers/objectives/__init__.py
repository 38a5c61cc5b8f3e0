"""What a model learns: one file each, `(models, batch, ctx) -> Loss`.

An objective's table says what it needs, so that another is refused before anything is prepared:

    needs     arrays of a batch (data.batch: `gives`)
    trains    what its models do with a text (model: `does`)
    parts     slots of the model that it reads, and the kinds that they may hold
    unit      what its loss is a mean over; a token if it doesn't say
    answers   the slot of the model whose classes are those of the data
    n_classes how many those must be, where the objective reads so many
"""
