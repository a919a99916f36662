// Runs a graph model on a batch of pictures: node run.mjs MODULES MODEL INPUT.json
import { createRequire } from "node:module";
import fs from "node:fs";
import path from "node:path";

const [modules, folder, input] = process.argv.slice(2);
const tf = createRequire(path.resolve(modules, "x.js"))("@tensorflow/tfjs");

function handler() {
  const model = JSON.parse(fs.readFileSync(path.join(folder, "model.json")));
  const weightSpecs = model.weightsManifest.flatMap((group) => group.weights);
  const paths = model.weightsManifest.flatMap((group) => group.paths);
  const data = Buffer.concat(paths.map((name) => fs.readFileSync(path.join(folder, name))));
  const weightData = data.buffer.slice(data.byteOffset, data.byteOffset + data.byteLength);
  const { modelTopology, signature } = model;
  return { load: async () => ({ modelTopology, weightSpecs, weightData, signature }) };
}

const { shape, data } = JSON.parse(fs.readFileSync(input));
const model = await tf.loadGraphModel(handler());
const outputs = Object.entries(model.signature.outputs);
const names = outputs.map(([, tensor]) => tensor.name);
const found = [await model.executeAsync({ images: tf.tensor(data, shape, "int32") }, names)].flat();
const answer = found.map((one, i) => [outputs[i][0], { shape: one.shape, data: [...one.dataSync()] }]);
console.log(JSON.stringify(Object.fromEntries(answer)));
