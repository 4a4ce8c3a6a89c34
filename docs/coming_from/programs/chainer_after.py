import chainer
import chainer.functions as F
import chainer.links as L
import numpy as np

import arrayoptim as ao

rng = np.random.RandomState(0)
x = rng.normal(size=(512, 8)).astype("f")
y = np.sin(x.sum(axis=1, keepdims=True))
model = chainer.Sequential(
    L.Linear(8, 32, initialW=rng.normal(scale=0.3, size=(32, 8))), F.tanh,
    L.Linear(32, 1, initialW=rng.normal(scale=0.1, size=(1, 32))),
)  # fmt: skip

optimizer = ao.Adam(lr=0.01, clipnorm=1.0)
params = {name: p.array for name, p in model.namedparams()}
for epoch in range(20):
    for rows in np.split(rng.permutation(512), 8):
        loss = F.mean_squared_error(model(x[rows]), y[rows])
        model.cleargrads()
        loss.backward()
        optimizer.apply({name: p.grad for name, p in model.namedparams()}, params)

ao.save_checkpoint("run.h5", params, optimizer)
print("loss %.3f" % F.mean_squared_error(model(x), y).array)
