import numpy as np
from thinc.api import Linear, Relu, chain, fix_random_seed

import arrayoptim as ao

fix_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(512, 8)).astype("f")
y = np.sin(x.sum(axis=1, keepdims=True))
model = chain(Relu(32), Linear(1))
model.initialize(x[:5], y[:5])

optimizer = ao.Adam(0.01, clipnorm_per_tensor=1.0, weight_decay=0.001)
held = [(f"{node.id}/{name}", node, name) for node in model.walk() for name in node.param_names]
params = {key: node.get_param(name) for key, node, name in held}
for epoch in range(20):
    for rows in np.split(rng.permutation(512), 8):
        guess, backprop = model.begin_update(x[rows])
        backprop((guess - y[rows]) / len(rows))
        grads = {key: node.get_grad(name) for key, node, name in held}
        optimizer.apply(grads, params)
        for gradient in grads.values():
            gradient[...] = 0.0

model.to_disk("model.bin")
ao.save_checkpoint("run.h5", params, optimizer)
print(f"loss {np.mean((model.predict(x) - y) ** 2):.3f}")
