// Builds the page: src/ into the folder that the daemon serves, the package's page/ or the one named as argument.
//
// Every file but index.html has a hash of its content in its name, so that browsers may keep it for ever.
// index.html names files as page/NAME.EXT; the build puts the hashed names there.

import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const target = path.resolve(process.argv[2] ?? path.join(here, "../src/icehouse_server/page"));

await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });

const { metafile } = await esbuild.build({
  absWorkingDir: here,
  entryPoints: ["src/main.ts", "src/icon.svg"],
  outdir: target,
  entryNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  bundle: true,
  minify: true,
  metafile: true,
  format: "esm",
  target: "es2022",
  legalComments: "none", // licenses.txt has them whole
  loader: { ".json": "file", ".svg": "copy" },
  logLevel: "warning",
});

const licenses = await collectLicenses(Object.keys(metafile.inputs));
const hash = createHash("sha256").update(licenses).digest("hex").slice(0, 8).toUpperCase();
await writeFile(path.join(target, `licenses-${hash}.txt`), licenses);

// index.html comes last: where it is, the page is whole.
const hashed = new Map();
for (const name of await readdir(target)) {
  hashed.set(name.replace(/-[0-9A-Z]{8}(\.\w+)$/, "$1"), name);
}
const html = await readFile(path.join(here, "src/index.html"), "utf8");
const named = html.replace(/"page\/([^"]+)"/g, (_, name) => {
  if (!hashed.has(name)) {
    throw new Error(`src/index.html names page/${name}; there are ${[...hashed.keys()].join(", ")}`);
  }
  return `"page/${hashed.get(name)}"`;
});
await writeFile(path.join(target, "index.html"), named);

/** The licence texts of the packages that these files are from. */
async function collectLicenses(inputs) {
  const folders = inputs.map((file) => file.match(/^node_modules\/(@[^/]+\/)?[^/]+/)?.[0]);
  const texts = ["This page is made with the software and the data below.\n"];
  for (const folder of [...new Set(folders)].filter(Boolean).sort()) {
    const { name, version, license } = JSON.parse(await readFile(path.join(here, folder, "package.json"), "utf8"));
    const files = (await readdir(path.join(here, folder))).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file));
    const parts = await Promise.all(files.sort().map((file) => readFile(path.join(here, folder, file), "utf8")));
    texts.push(`${"-".repeat(72)}\n${name} ${version} (${license})\n\n${parts.join("\n").trim()}\n`);
  }
  return texts.join("\n");
}
