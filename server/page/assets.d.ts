// What the build makes of imports that are no code: their address, relative to the script that imports them.
// Use it as new URL(address, import.meta.url).

declare module "*.json" {
  const address: string;
  export default address;
}

declare module "*.css" {}
