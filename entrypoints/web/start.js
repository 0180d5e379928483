// The start page: the code names the address this server really has.

import { at, connect } from "./shell.js";

const here = new URL("./", location.href).href.replace(/\/$/, "");
at("first-page").textContent = at("first-page").textContent.replaceAll("http://127.0.0.1:8000", here);
connect();
