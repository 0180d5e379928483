// What the tests test: the source, or with HUBBUB_CLIENT=built the file that is shipped.

const file = process.env.HUBBUB_CLIENT === "built" ? "../hubbub.js" : "../src/index.js";

export const { ChatClient, Hubbub, HubbubError } = await import(file);
