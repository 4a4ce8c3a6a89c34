import numpy as np
from keras import Input
from keras.callbacks import LearningRateScheduler
from keras.layers import Dense
from keras.models import Sequential

import arrayoptim as ao

rng = np.random.RandomState(0)
x = rng.normal(size=(512, 8)).astype("float32")
y = np.sin(x.sum(axis=1, keepdims=True))
weights = [rng.normal(scale=0.3, size=s) for s in ((8, 32), (32,), (32, 1), (1,))]

model = Sequential([Input((8,)), Dense(32, activation="tanh"), Dense(1)])
model.set_weights(weights)

sgd = ao.keras.SGD(lr=0.1, decay=1e-3, momentum=0.9, nesterov=True)
model.compile(loss="mse", optimizer=sgd)


def halve(epoch):
    rate = sgd.lr
    return float(rate / 2 if epoch == 10 else rate)


model.fit(
    x, y, batch_size=64, epochs=20, shuffle=False, verbose=0,
    callbacks=[LearningRateScheduler(halve)],
)  # fmt: skip
model.save("model.keras")
print("loss %.3f" % model.evaluate(x, y, verbose=0))
