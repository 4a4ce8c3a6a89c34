import numpy as np
from thinc.api import Adam, Linear, Relu, chain, fix_random_seed

fix_random_seed(0)
rng = np.random.default_rng(0)
x = rng.normal(size=(512, 8)).astype("f")
y = np.sin(x.sum(axis=1, keepdims=True))
model = chain(Relu(32), Linear(1))
model.initialize(x[:5], y[:5])

optimizer = Adam(0.01, grad_clip=1.0, L2=0.001, use_averages=False)
for epoch in range(20):
    for rows in np.split(rng.permutation(512), 8):
        guess, backprop = model.begin_update(x[rows])
        backprop((guess - y[rows]) / len(rows))
        model.finish_update(optimizer)
        optimizer.step_schedules()

model.to_disk("model.bin")
print(f"loss {np.mean((model.predict(x) - y) ** 2):.3f}")
