import keras
import numpy as np

import arrayoptim as ao

keras.utils.set_random_seed(0)
x = np.random.normal(size=(512, 8)).astype("float32")
y = np.sin(x.sum(axis=1, keepdims=True))
model = keras.Sequential(
    [keras.Input((8,)), keras.layers.Dense(32, activation="tanh"), keras.layers.Dense(1)]
)

rate = keras.optimizers.schedules.CosineDecay(0.01, decay_steps=160)
optimizer = ao.keras.AdamW(rate, weight_decay=0.01, global_clipnorm=1.0, preset="keras3")
model.compile(loss="mse", optimizer=optimizer)

model.fit(x, y, batch_size=64, epochs=20, shuffle=False, verbose=0)
model.save("model.keras")
print(f"loss {model.evaluate(x, y, verbose=0):.3f}")
