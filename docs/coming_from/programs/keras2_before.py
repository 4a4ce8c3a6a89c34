import numpy as np
from keras import backend as K
from keras.callbacks import LearningRateScheduler
from keras.layers import Dense
from keras.models import Sequential
from keras.optimizers import SGD

rng = np.random.RandomState(0)
x = rng.normal(size=(512, 8)).astype("float32")
y = np.sin(x.sum(axis=1, keepdims=True))
weights = [rng.normal(scale=0.3, size=s) for s in ((8, 32), (32,), (32, 1), (1,))]

model = Sequential([Dense(32, activation="tanh", input_dim=8), Dense(1)])
model.set_weights(weights)

sgd = SGD(lr=0.1, decay=1e-3, momentum=0.9, nesterov=True)
model.compile(loss="mse", optimizer=sgd)


def halve(epoch):
    rate = K.get_value(sgd.lr)
    return float(rate / 2 if epoch == 10 else rate)


model.fit(
    x, y, batch_size=64, epochs=20, shuffle=False, verbose=0,
    callbacks=[LearningRateScheduler(halve)],
)  # fmt: skip
model.save("model.h5")
print("loss %.3f" % model.evaluate(x, y, verbose=0))
